/* prepare.objectives: records with several scores, or several users' choices, as views of one file. */
#ifndef COLLIMATE_COMMAND_PREPARE_VIEWS_H
#define COLLIMATE_COMMAND_PREPARE_VIEWS_H

#include "command/prepare_report.h"

/* Local. Frees what prepare_read_objectives read. */
void prepare_free_objectives(struct prepare *p);
/* Local, after the format is known. Fills p->objectives and what the job has of them. Fails: ERR_USAGE for
 * names that no view can have, for formats without named scores, for as many files as users that are not
 * there. */
enum status prepare_read_objectives(struct prepare *p);
/* Collective, after prepare_records. Says which objectives have how many scores. Fails: ERR_DATA for one that
 * has none, naming those that are there. */
enum status prepare_check_objectives(struct prepare *p);
/* Collective, after the file is written (or in place of that, in a dry run). Writes the views and reports
 * them. */
enum status prepare_write_views(struct prepare *p);

#endif
