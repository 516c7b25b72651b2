# SPDX-License-Identifier: Apache-2.0
# Throughput by depth. plots.py sets svg, names, and a block of data for each name, $curve1 and so on.
set terminal svg size 700,420 font "sans,12" background "white"
set output svg
set title "Calls of echo, 64 bytes, on one connection to one worker"
set xlabel "calls in flight"
set ylabel "calls a second"
set logscale x 2
set logscale y
set format y "10^{%L}"
set grid lt 1 lc rgb "#dddddd"
set key bottom right
plot for [i = 1:words(names)] '$curve'.i using 1:2 with linespoints lw 2 pt 7 ps 0.6 title word(names, i)
