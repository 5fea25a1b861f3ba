#!/bin/sh
# plot.sh: draws the curves of build/bench.json, a panel each, for people who would rather look: build/bench.svg and
# build/bench.png. Each curve is a line of its own in that file (report.c).
set -eu
: "${BUILD:?the build folder}"
json=$BUILD/bench.json

text() { # LINE KEY
    printf '%s\n' "$1" | sed -n "s/.*\"$2\":\"\([^\"]*\)\".*/\1/p"
}
numbers() { # LINE KEY: one a line
    printf '%s\n' "$1" | sed -n "s/.*\"$2\":\[\([^]]*\)\].*/\1/p" | tr ',' '\n'
}
# columns FILE...: side by side, as data that gnuplot reads
columns() {
    # shellcheck disable=SC2016 # gnuplot's name
    printf '$data << EOD\n'
    paste "$@"
    printf 'EOD\n'
}

panel() { # LINE
    other=$(text "$1" other_name)
    unit=$(text "$1" unit)
    lines="\$data using 1:2 with linespoints linestyle 1 title 'fob'"
    for key in x y other; do numbers "$1" "$key" >"$folder/$key"; done
    if [ -n "$other" ]; then
        columns "$folder/x" "$folder/y" "$folder/other"
        lines="$lines, \$data using 1:3 with linespoints linestyle 2 title '$other'"
    else
        columns "$folder/x" "$folder/y"
    fi
    [ "$unit" = us ] && unit=microseconds || unit='in a second'
    echo "set title '$(text "$1" y_name)'"
    echo "set xlabel '$(text "$1" x_name)'"
    echo "set ylabel '$unit'"
    echo "set xtics ($(tr '\n' ',' <"$folder/x" | sed 's/,$//; s/\([^,]*\)/"\1" \1/g; s/000000"/M"/g; s/000"/k"/g'))"
    # What grows tenfold stands evenly; a few workers do so by themselves.
    if [ "$(tail -n 1 "$folder/x")" -gt 4 ]; then echo 'set logscale x'; else echo 'unset logscale x'; fi
    echo "plot [$(awk 'NR == 1 { first = $1 } END { print first * 0.8 ":" $1 * 1.2 }' "$folder/x")] [0:*] $lines"
}

draw() { # TERMINAL FILE
    cat <<END
set terminal $1 size 1500,900 noenhanced
set output '$2'
set style line 1 linewidth 2 pointtype 7 linecolor rgb '#c02020'
set style line 2 linewidth 2 pointtype 5 linecolor rgb '#4060a0' dashtype 2
set grid ytics
set key below
set xlabel offset 0,0.4
set offsets 0, 0, graph 0.05, 0
set multiplot layout 2,3 title 'fob: cost as the work grows ($(text "$about" kernel), medians of a run of make bench)'
END
    grep '^{"curve":' "$json" | while read -r line; do panel "$line"; done
    echo 'unset multiplot'
}

if ! grep -q '^{"curve":' "$json"; then
    echo "plot.sh: $json has no curves: make bench measures them (make bench-quick does not)" >&2
    exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
about=$(grep '"kernel":' "$json")
draw svg "$BUILD/bench.svg" >"$folder/svg"
gnuplot "$folder/svg"
echo "$BUILD/bench.svg"
draw pngcairo "$BUILD/bench.png" >"$folder/png"
if gnuplot "$folder/png" 2>/dev/null; then
    echo "$BUILD/bench.png"
else # a gnuplot without cairo
    rm -f "$BUILD/bench.png"
fi
