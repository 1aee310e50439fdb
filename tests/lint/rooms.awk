# Reports #include "..." against the arrows of rooms.txt.
# usage: awk -f rooms.awk rooms.txt FILE...      rooms.txt: "<room> <may include>...", each room below the ones that it includes
# (so there is no circle), but for arrows that a comment there says are still back up.
function room_of(path,    n, part) {
    n = split(path, part, "/")
    return part[1] == "src" ? part[1] "/" part[2] : part[1]
}
FNR == 1 { file_number++ }
file_number == 1 {
    if (/^# Still back up/) are_said = 1
    sub(/#.*/, "")
    if (NF) {
        for (i = 2; i <= NF; i++) {
            may[$1, $i] = 1
            if ($i != "*" && !($i in known)) back_up[++n_back_up] = $1 " may include " $i ", which is not above it"
        }
        known[$1] = 1
    }
    next
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, quoted, "\"")
    included = quoted[2]
    from = room_of(FILENAME)
    to = room_of(included)
    if (!(to in known)) to = room_of("src/" included)
    if (!(from in known)) next
    if (included !~ /\//) { print FILENAME ":" FNR ": include \"" included "\": name its room"; bad++ }
    else if (!(to in known)) { print FILENAME ":" FNR ": unknown room in \"" included "\""; bad++ }
    else if (to != from && !may[from, to] && !may[from, "*"]) { print FILENAME ":" FNR ": " from " may not include " to; bad++ }
}
END {
    for (i = 1; i <= n_back_up; i++) print "rooms.txt: " back_up[i]
    exit bad > 0 || (n_back_up > 0 && !are_said)
}
