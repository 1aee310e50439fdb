# Completion of collimate in bash: commands, flags, configuration files, and the keys that COMMAND --help lists.
_collimate() {
    local word=${COMP_WORDS[COMP_CWORD]} names
    # Bash takes "=" as a word of its own: after it comes a value, most often a path.
    if [[ $word == "=" || ${COMP_WORDS[COMP_CWORD - 1]} == "=" ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "${word#=}")
        return
    fi
    if [[ $COMP_CWORD -eq 1 ]]; then
        names=$(collimate --help | sed -n '/^commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p')
        mapfile -t COMPREPLY < <(compgen -W "--help --version --print-config $names" -- "$word")
        return
    fi
    names=$(collimate "${COMP_WORDS[1]}" --help 2> /dev/null | sed -n 's/^  \([a-z][a-z_0-9.]*\) .*/\1/p')
    mapfile -t COMPREPLY < <(
        compgen -W "--help --dry-run --print-config --quiet" -- "$word"
        compgen -S = -W "$names" -- "$word"
        compgen -f -X '!*.yaml' -- "$word"
    )
    [[ ${COMPREPLY[0]:-} != *= ]] || compopt -o nospace
}
complete -F _collimate collimate
