/* Vectors as the settings' embed.* ask for them: `embed`, a selection in `dpo`, choices that steer. */
#ifndef COLLIMATE_COMMAND_EMBED_H
#define COLLIMATE_COMMAND_EMBED_H

#include "command/session.h"

/* Who embeds what, in a session of its own that is closed again: nothing else of the command is open yet. */
struct embed_aside {
    char *model, *adapter; /* folders; adapter may be "" */
    const char *data;
    enum data_split split;
};
/* Collective. As embed_run, where the settings' model, adapter and split are others; the side-car is
 * automatic. */
enum status embed_aside(struct run *run, const struct embed_aside *what, struct text *path);

/* Collective. Embeds data's responses under the session's model (open) into the side-car at *path (empty:
 * beside the data; it comes back; is_automatic: no user named it, so that a stale one is computed
 * again), and says in the log what was computed, at which rate. */
enum status embed_run(const struct session *s, struct dataset *data, bool is_automatic, struct text *path);

#endif
