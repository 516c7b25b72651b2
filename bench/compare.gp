# SPDX-License-Identifier: Apache-2.0
# Bars of calls a second, few and many in flight. compare.py sets $figures, svg, few and many.
set terminal svg size 800,420 font "sans,12" background "white"
set output svg
set title "An argument of 64 bytes echoed by one worker, one connection"
set ylabel "calls a second"
set logscale y
set format y "10^{%L}"
set yrange [1000:*]
set grid ytics lt 1 lc rgb "#dddddd"
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.9 noborder
set boxwidth 0.9
set xtics rotate by -30 nomirror
set key top left
plot $figures using 2:xtic(1) title sprintf("%d at a time", few) lc rgb "#9db7d5", \
     $figures using 3 title sprintf("%d in flight", many) lc rgb "#1f4e8c"
