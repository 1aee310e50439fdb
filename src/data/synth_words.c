#include "data/synth_words.h"

const char *const synth_adjectives[] = {"old", "red", "big", "new", "cold", "warm", "dark", "long"};
const char *const synth_things[] = {"river", "house", "song", "road", "tree", "boat", "bird", "book"};
const char *const synth_kind[] = {"glad", "good", "sweet", "lovely", "dear", "fine", "happy", "bright"};
const char *const synth_harsh[] = {"awful", "bad", "nasty", "ugly", "cruel", "dull", "grim", "vile"};
const char *const synth_grand[] = {"royal", "noble", "vast", "mighty", "lofty", "proud", "epic", "regal"};
const char *const synth_plain[] = {"mere", "usual", "common", "modest", "simple", "normal", "basic", "spare"};
const char *const synth_clear[] = {"clear", "exact", "precise", "sure", "certain", "true", "sound", "proven"};
const char *const synth_vague[] = {"vague", "unsure", "unclear", "fuzzy", "murky", "shaky", "hazy", "false"};
const char *const synth_neutral[] = {"it",   "is",   "was",  "and",   "then", "there", "one",  "with",
                                     "some", "more", "that", "about", "from", "over",  "here", "many"};
