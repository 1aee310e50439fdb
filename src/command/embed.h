/* What `embed` and `dpo` share: vectors as the settings' embed.* ask for them. */
#ifndef COLLIMATE_COMMAND_EMBED_H
#define COLLIMATE_COMMAND_EMBED_H

#include "command/session.h"

/* Collective. Embeds data's responses under the session's model (open) into the side-car at *path (empty:
 * beside the data; it comes back; is_automatic: no user named it, so that a stale one is computed
 * again), and says in the log what was computed, at which rate. */
enum status embed_run(const struct session *s, struct dataset *data, bool is_automatic, struct text *path);

#endif
