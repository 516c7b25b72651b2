# SPDX-License-Identifier: Apache-2.0
# Throughput by batch size. plots.py sets svg, names, and a block of data for each name, $curve1 and so on.
set terminal svg size 800,460 font "sans,12" background "white"
set output svg
set title "Calls in batches: 64 bytes echoed by one worker, one caller"
set xlabel "calls in a batch"
set ylabel "calls a second"
set logscale x
set logscale y
set xtics (1, 4, 16, 64, 256, 1000)
set xrange [0.9:1100]
set format y "10^{%L}"
set grid lt 1 lc rgb "#dddddd"
set key outside right
plot for [i = 1:words(names)] '$curve'.i using 1:2 with linespoints lw 2 pt 7 ps 0.6 title word(names, i)
