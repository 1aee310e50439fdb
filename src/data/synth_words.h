/* The words that made texts are of. */
#ifndef COLLIMATE_DATA_SYNTH_WORDS_H
#define COLLIMATE_DATA_SYNTH_WORDS_H

enum { SYNTH_CLASS_WORDS = 8, SYNTH_NEUTRAL_WORDS = 16 };

/* Of prompts; things stand in responses too. */
extern const char *const synth_adjectives[SYNTH_CLASS_WORDS];
extern const char *const synth_things[SYNTH_CLASS_WORDS];
/* Classes that somebody likes or dislikes. No word is in two classes. */
extern const char *const synth_kind[SYNTH_CLASS_WORDS];
extern const char *const synth_harsh[SYNTH_CLASS_WORDS];
extern const char *const synth_grand[SYNTH_CLASS_WORDS];
extern const char *const synth_plain[SYNTH_CLASS_WORDS];
extern const char *const synth_clear[SYNTH_CLASS_WORDS];
extern const char *const synth_vague[SYNTH_CLASS_WORDS];
/* Nobody minds these. */
extern const char *const synth_neutral[SYNTH_NEUTRAL_WORDS];

#endif
