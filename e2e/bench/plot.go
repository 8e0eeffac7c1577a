package main

import (
	"fmt"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// plot draws the throughput of each contestant against its p99, medians and spread, in the cell of the targets or else the
// first.
func (r *report) plot(file string) error {
	in := r.cells()[0]
	for _, c := range r.cells() {
		if c == targetCell {
			in = c
		}
	}
	p := plot.New()
	p.Title.Text = fmt.Sprintf("%s, %d connections", bytesText(in.Body), in.Connections)
	p.X.Label.Text = "requests/s"
	p.Y.Label.Text = "p99, ms (logarithmic)"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.X.Min = 0
	p.Add(plotter.NewGrid())
	for _, c := range contestants {
		all := r.of(c.name, in)
		if len(all) == 0 {
			continue
		}
		if err := addPoint(p, c, spreadOf(all, rateOf), spreadOf(all, p99Of)); err != nil {
			return fmt.Errorf("plotting %s: %w", c.name, err)
		}
	}
	return p.Save(9*vg.Inch, 5*vg.Inch, file)
}

// point is one with errors, as plotter wants it.
type point struct {
	plotter.XYs
	plotter.XErrors
	plotter.YErrors
}

func addPoint(p *plot.Plot, c contestant, rate, p99 spread) error {
	at := point{
		XYs:     plotter.XYs{{X: rate.median, Y: p99.median}},
		XErrors: plotter.XErrors{{Low: rate.median - rate.least, High: rate.most - rate.median}},
		YErrors: plotter.YErrors{{Low: p99.median - p99.least, High: p99.most - p99.median}},
	}
	x, err := plotter.NewXErrorBars(at)
	if err != nil {
		return err
	}
	y, err := plotter.NewYErrorBars(at)
	if err != nil {
		return err
	}
	dot, err := plotter.NewScatter(at)
	if err != nil {
		return err
	}
	label, err := plotter.NewLabels(plotter.XYLabels{XYs: at.XYs, Labels: []string{c.name}})
	if err != nil {
		return err
	}
	ink := color.RGBA{R: 0x80, G: 0x80, B: 0x80, A: 0xff}
	if c.crowd {
		ink = color.RGBA{R: 0xd0, G: 0x30, B: 0x20, A: 0xff}
	}
	x.Color, y.Color = ink, ink
	dot.GlyphStyle = draw.GlyphStyle{Color: ink, Radius: vg.Points(3), Shape: draw.CircleGlyph{}}
	label.TextStyle[0].Color = ink
	label.Offset = vg.Point{X: vg.Points(5), Y: vg.Points(4)}
	p.Add(x, y, dot, label)
	return nil
}
