# Reports functions that are longer or nested deeper, and files that are longer, than given; at the end, how near the tree is.
# usage: awk -v lines=N -v nesting=N -v file_lines=N -f functions.awk FILE...
# A function begins with a line that ends its parameters and opens its body, and ends with a brace at the margin, as
# clang-format leaves them; its lines are those between. Nesting is of blocks in its body. One that has to be longer says so in
# front of it: "NOLINTNEXTLINE(readability-function-size): reason".
function braces(text,    opened) {
    gsub(/\\./, "", text)
    gsub(/"[^"]*"|'[^']*'/, "", text)
    gsub(/\/\*.*\*\/|\/\/.*/, "", text)
    opened = gsub(/\{/, "", text)
    return opened - gsub(/\}/, "", text)
}
function report(what) {
    print what
    bad++
}
function end_file() {
    if (counted > file_lines) report(file ": " counted " lines, at most " file_lines)
}
FNR == 1 {
    end_file()
    file = FILENAME
    inside = 0
}
{ counted = FNR }
!inside && /^[A-Za-z_]/ {
    head = $0
    sub(/__launch_bounds__\([^)]*\) */, "", head)
    may_be_long = before ~ /NOLINTNEXTLINE\(readability-function-size\): ./
}
!inside && /^ / && head !~ /\(/ { head = head $0 }
!inside { before = $0 }
!inside && /\)( const| noexcept)* \{$/ && !/^#/ {
    inside = 1
    first = FNR
    name = head
    sub(/ *\(.*/, "", name)
    sub(/.*[ *]/, "", name)
    depth = deepest = 0
    functions++
    next
}
inside && /^\}/ {
    inside = 0
    length_ = FNR - first - 1
    if (length_ > longest) { longest = length_; longest_is = file ":" first " " name }
    if (deepest > most) { most = deepest; deepest_is = file ":" first " " name }
    if (length_ > lines && !may_be_long) report(file ":" first ": " name ": " length_ " lines, at most " lines)
    if (deepest > nesting) report(file ":" first ": " name ": nested " deepest " deep, at most " nesting)
    next
}
inside {
    depth += braces($0)
    if (depth > deepest) deepest = depth
}
END {
    end_file()
    print functions " functions; the longest: " longest_is ", " longest " lines; the deepest: " deepest_is ", " most
    exit bad > 0
}
