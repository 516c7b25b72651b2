# SPDX-License-Identifier: Apache-2.0
# Latency by percentile. plots.py sets svg, names, and a block of data for each name, $curve1 and so on.
set terminal svg size 700,420 font "sans,12" background "white"
set output svg
set title "Single calls of echo, 64 bytes: latency by percentile"
set xlabel "percentile"
set ylabel "microseconds"
set logscale xy
set xtics ("50" 2, "90" 10, "99" 100, "99.9" 1000, "99.99" 10000)
set format y "%g"
set grid lt 1 lc rgb "#dddddd"
set key top left
plot for [i = 1:words(names)] '$curve'.i using 1:2 with linespoints lw 2 pt 7 ps 0.6 title word(names, i)
