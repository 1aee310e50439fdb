# A file's name says which it is: no two are called the same, but for a folder's README.md and CMakeLists.txt and what is data.
# The tests of a room are test_x.c; a script of the same subject is test_x.sh.
set -u
twice=$(git ls-files -- ':!tests/fixtures' ':!tests/fuzz/seeds' ':!benchmarks/results' | sed 's:.*/::' | grep -vxE 'README\.md|CMakeLists\.txt' |
    sort | uniq -d)
for name in $twice; do
    echo "two files are called $name: $(git ls-files "$name" "*/$name" | tr '\n' ' ')"
done
[ -z "$twice" ]
