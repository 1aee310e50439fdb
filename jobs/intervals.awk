# Means over seeds with Student's intervals at 95 %, and paired differences:
#   awk -F, -v pairs="easy-random random-hard" -f jobs/intervals.awk VALUES.csv
# in:  group,seed,item,measure,value  (a header line and lines without a value are skipped)
# out: group,item,measure,seeds,mean,low,high  items in the order of their first line; then, for each of pairs, item
#      "a-b": the mean over the seeds that have both of a's value minus b's. With one seed low and high are empty.
function quantile(df) { # of Student's t at 0.975
    return df in t ? t[df] : 1.96 + 2.4 / df
}
function put(group, item, measure, n, sum, squares,    mean, half) {
    mean = sum / n
    if (n < 2) {
        printf "%s,%s,%s,1,%.6g,,\n", group, item, measure, mean
        return
    }
    half = squares / n - mean * mean
    half = quantile(n - 1) * sqrt((half > 0 ? half : 0) / (n - 1))
    printf "%s,%s,%s,%d,%.6g,%.6g,%.6g\n", group, item, measure, n, mean, mean - half, mean + half
}
BEGIN {
    n_t = split("12.706 4.303 3.182 2.776 2.571 2.447 2.365 2.306 2.262 2.228 2.201 2.179 2.160 2.145 2.131 " \
                "2.120 2.110 2.101 2.093 2.086 2.080 2.074 2.069 2.064 2.060 2.056 2.052 2.048 2.045 2.042", t, " ")
    n_pairs = split(pairs, pair, " ")
    print "group,item,measure,seeds,mean,low,high"
}
$5 !~ /^-?[0-9]/ { next }
{
    key = $1 FS $3 FS $4
    if (!(key in count)) {
        order[++n_keys] = key
    }
    if (!(($1, $4) in known)) {
        known[$1, $4] = 1
        measures[++n_measures] = $1 FS $4
    }
    if (!($2 in seen)) {
        seen[$2] = 1
        seeds[++n_seeds] = $2
    }
    count[key]++
    total[key] += $5
    square[key] += $5 * $5
    value[$1, $2, $3, $4] = $5
}
END {
    for (i = 1; i <= n_keys; i++) {
        split(order[i], part, FS)
        put(part[1], part[2], part[3], count[order[i]], total[order[i]], square[order[i]])
    }
    for (m = 1; m <= n_measures; m++) {
        split(measures[m], part, FS)
        for (p = 1; p <= n_pairs; p++) {
            split(pair[p], side, "-")
            n = sum = squares = 0
            for (s = 1; s <= n_seeds; s++) {
                a = part[1] SUBSEP seeds[s] SUBSEP side[1] SUBSEP part[2]
                b = part[1] SUBSEP seeds[s] SUBSEP side[2] SUBSEP part[2]
                if (a in value && b in value) {
                    d = value[a] - value[b]
                    n++
                    sum += d
                    squares += d * d
                }
            }
            if (n > 0) {
                put(part[1], pair[p], part[2], n, sum, squares)
            }
        }
    }
}
