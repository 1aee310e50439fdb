# Reports #include "..." against the arrows of rooms.txt.
# usage: awk -f rooms.awk rooms.txt FILE...      rooms.txt: "<room> <may include>..."
function room_of(path,    n, part) {
    n = split(path, part, "/")
    return part[1] == "src" ? part[1] "/" part[2] : part[1]
}
FNR == 1 { file_number++ }
file_number == 1 {
    sub(/#.*/, "")
    if (NF) {
        known[$1] = 1
        for (i = 2; i <= NF; i++) may[$1, $i] = 1
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
END { exit bad > 0 }
