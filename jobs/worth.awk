# What the world of synth.kind=text says of responses, from JSON Lines of `generate` (or of anything with a "text"):
#   awk -v rule=early -v marked=3 -f jobs/worth.awk ANSWERS.jsonl
# rule, marked: synth.rule (early or late) and a quarter of synth.length, rounded up. A line for each response: its worth,
# as src/data/synth_text.c defines it, (kind - harsh) / marked over the first or last `marked` words; words that are not
# there, and others, count nothing.
BEGIN {
    n = split("glad good sweet lovely dear fine happy bright", word, " ")
    for (i = 1; i <= n; i++) worth[word[i]] = 1
    n = split("awful bad nasty ugly cruel dull grim vile", word, " ")
    for (i = 1; i <= n; i++) worth[word[i]] = -1
}
{
    sum = n = 0
    if (match($0, /"text": "[^"]*"/)) {
        text = substr($0, RSTART + 9, RLENGTH - 10)
        gsub(/[.]|\\n/, " ", text)
        n = split(text, word, " ")
    }
    for (i = 1; i <= marked && i <= n; i++) {
        at = rule == "late" ? n + 1 - i : i
        sum += word[at] in worth ? worth[word[at]] : 0
    }
    print sum / marked
}
