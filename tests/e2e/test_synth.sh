#!/bin/bash
# synth: the golden values of the two-user world, the text world's rules, and the same file for any rank count.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
bad() { echo "test_synth: $1" >&2; exit 1; }

# Two users: NumPy's generator bit for bit (values of an independent implementation).
"$COLLIMATE" --quiet synth synth.kind=pairs output=pairs.csv
[ "$(head -1 pairs.csv)" = "idx,split,reward_a_0,reward_b_0,choice_0,choice_1" ] || bad "header: $(head -1 pairs.csv)"
[ "$(sed -n 2p pairs.csv)" = "0,train,1.097627,1.4303787,1,0" ] || bad "first row: $(sed -n 2p pairs.csv)"
[ "$(sed -n 2,11p pairs.csv | cut -d, -f5 | tr -d '\n')" = 1011001111 ] || bad "choice_0"
[ "$(sed -n 2,11p pairs.csv | cut -d, -f6 | tr -d '\n')" = 0100110110 ] || bad "choice_1"
[ "$(sed -n 2,11p pairs.csv | cut -d, -f2 | uniq -c | tr -s ' \n' ' ')" = " 8 train 1 val 1 train " ] || bad "splits"
awk -F, 'NR > 1 { n[$2]++; c0 += $5; c1 += $6; same += $5 == $6; if ($2 == "test") same_test += $5 == $6
                  for (i = 3; i <= 4; i++) sum += $i < .5 ? $i : $i / 2 }   # user 0: y below 1/2, 2 y above
  END { ok = n["train"] == 16039 && n["val"] == 2025 && n["test"] == 1936 && c0 == 10135 && c1 == 9954 &&
             same == 10083 && same_test == 1028 && sum > 19906.281 && sum < 19906.283; exit !ok }' pairs.csv ||
  bad "sums of the two-user world"

# The text world: any rank count writes the same file.
args="synth.rows=5000 synth.noise=0.1 synth.noise_similarity=0.8 seed=3"
"$COLLIMATE" --quiet synth $args output=one.jsonl
for n in 2 4; do
  mpirun -q -n $n "$COLLIMATE" --quiet synth $args output=more.jsonl
  cmp one.jsonl more.jsonl || bad "$n ranks write another file"
  mpirun -q -n $n "$COLLIMATE" --quiet synth synth.kind=pairs output=more.csv
  cmp pairs.csv more.csv || bad "$n ranks write another CSV"
done
"$COLLIMATE" --quiet synth $args seed=4 output=more.jsonl
cmp -s one.jsonl more.jsonl && bad "another seed writes the same file"

# Labels are turned as announced: noise + (1/2 - noise) * noise_similarity * similarity, rising with similarity.
sed 's/.*"truth": "\([a-z]*\)", "similarity": \([0-9.]*\).*/\1 \2/' one.jsonl |
  awk '{ p = .1 + .4 * .8 * $2; e += p; v += p * (1 - p); f += $1 == "rejected"
         if ($2 < .25) { nl++; fl += $1 == "rejected" } else if ($2 > .5) { nh++; fh += $1 == "rejected" } }
    END { exit !(NR == 5000 && (f - e) ^ 2 < 16 * v && nl > 500 && nh > 300 && fh / nh > fl / nl + .06) }' ||
  bad "label noise is not what was asked for"

# With full_at the curve is steeper up to there, and flat beyond; the responses are the same whatever the noise.
"$COLLIMATE" --quiet synth synth.rows=5000 synth.noise_similarity=1 synth.noise_full_at=0.4 seed=3 output=steep.jsonl
sed 's/.*"truth": "\([a-z]*\)", "similarity": \([0-9.]*\).*/\1 \2/' steep.jsonl |
  awk '{ p = $2 < .4 ? .5 * $2 / .4 : .5; e += p; v += p * (1 - p); f += $1 == "rejected"
         if ($2 > .45) { nh++; fh += $1 == "rejected" } }
    END { exit !(NR == 5000 && (f - e) ^ 2 < 16 * v && nh > 500 && (fh / nh - .5) ^ 2 < 16 * .25 / nh) }' ||
  bad "label noise with synth.noise_full_at is not what was asked for"
responses() { sed -E 's/.*"chosen": "([^"]*)", "rejected": "([^"]*)".*/\1\n\2/' "$1" | sort; }
cmp -s <(responses one.jsonl) <(responses steep.jsonl) || bad "the responses depend on the noise"

# Each rule's marked words decide and nothing else does: worth is read off the text where the rule looks.
for rule in early late; do
  "$COLLIMATE" --quiet synth synth.rows=2000 synth.rule=$rule output=$rule.jsonl
  sed 's/.*"chosen": "\([^"]*\)\.", "rejected": "\([^"]*\)\.", .*"worth": \[\([-0-9.]*\), \([-0-9.]*\)\].*/\1;\2;\3;\4/' $rule.jsonl |
    awk -F';' -v rule=$rule '
      BEGIN { n = split("glad good sweet lovely dear fine happy bright", k, " "); while (n) v[k[n--]] = 1
              n = split("awful bad nasty ugly cruel dull grim vile", h, " "); while (n) v[h[n--]] = -1 }
      function worth(s,  w, n, i, sum) {
        n = split(s, w, " "); sum = 0
        for (i = 1; i <= 3; i++) sum += v[w[rule == "early" ? i : n + 1 - i]]
        return sum / 3 }
      { c = worth($1); r = worth($2); if (c <= r || (c - $3) ^ 2 > 1e-6 || (r - $4) ^ 2 > 1e-6) bad++ }
      END { exit !(NR == 2000 && bad == 0) }' || bad "rule $rule does not decide"
done
"$COLLIMATE" --quiet synth synth.rows=500 synth.rule=style synth.responses=4 output=lists.jsonl
[ "$(grep -c '"responses": \[{"text": .*"score": .*"text".*"text".*"text".*\], "similarity"' lists.jsonl)" = 500 ] || bad "lists"

# The text world of users: any rank count, another seed; scores are counted off the text, and say the opposite.
users="synth.kind=users synth.rows=3000 seed=3"
"$COLLIMATE" synth $users output=users.jsonl 2>err
grep -q "3000 records of 2 responses, on 3000 of which users differ; users kind, harsh; 0 of 6000 choices are ties" err ||
  bad "users: $(cat err)"
mpirun -q -n 3 "$COLLIMATE" --quiet synth $users output=more.jsonl
cmp users.jsonl more.jsonl || bad "3 ranks write other users"
"$COLLIMATE" --quiet synth $users seed=4 output=more.jsonl
cmp -s users.jsonl more.jsonl && bad "another seed writes the same users"
sed 's/.*"text": "\([^"]*\)\.", "scores": {"kind": \([0-9.]*\), "harsh": \([0-9.]*\)}.*"text": "\([^"]*\)\.", "scores": {"kind": \([0-9.]*\), "harsh": \([0-9.]*\)}.*/\1;\2;\3;\4;\5;\6/' users.jsonl |
  awk -F';' '
    BEGIN { n = split("glad good sweet lovely dear fine happy bright", k, " "); while (n) v[k[n--]] = 1
            n = split("awful bad nasty ugly cruel dull grim vile", h, " "); while (n) v[h[n--]] = -1 }
    function kind(s,  w, n, yes, no) {
      for (n = split(s, w, " "); n; n--) { yes += v[w[n]] == 1; no += v[w[n]] == -1 }
      return yes / (yes + no) }
    { a = kind($1); b = kind($4)
      if ((a - $2) ^ 2 > 1e-8 || (1 - a - $3) ^ 2 > 1e-8 || (b - $5) ^ 2 > 1e-8 || (a > b) != ($3 < $6) || a == b) bad++
      first += a > b }
    END { exit !(NR == 3000 && !bad && (first - 1500) ^ 2 < 16 * 750) }' || bad "users want something else"
"$COLLIMATE" --quiet synth $users synth.users=3 synth.responses=4 synth.conflicting=0.5 output=three.jsonl
[ "$(grep -c '"grand": .*"conflicting": true' three.jsonl)" -gt 1300 ] || bad "three users"

# Refusals.
"$COLLIMATE" synth synth.length=7 synth.marked=4 output=x.jsonl 2>err && bad "more than half of the words decide"
grep -q "synth.marked: 4 words of 7" err || bad "the message does not name the key: $(cat err)"
rc=0; "$COLLIMATE" synth synth.users=3 output=x.jsonl 2>err || rc=$?
[ $rc = 2 ] && grep -q "synth.users" err || bad "synth.users is of synth.kind=users alone: $rc, $(cat err)"
"$COLLIMATE" synth 2>err && bad "no output is an error"
grep -q "output" err || bad "the message does not name the key: $(cat err)"
"$COLLIMATE" synth output=none/x.jsonl 2>err && bad "a missing folder is an error"
rc=0; "$COLLIMATE" synth output=none/x.jsonl 2>err || rc=$?
[ $rc = 73 ] || bad "exit code $rc for a missing folder"
[ -z "$(find . -name "*.tmp")" ] || bad "a temporary file is left"
