package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
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
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(ticks)
	p.X.Min, p.X.Tick.Marker = 0, plot.TickerFunc(wholeTicks)
	p.Add(plotter.NewGrid())
	for i, c := range contestants {
		all := r.of(c.name, in)
		if len(all) == 0 {
			continue
		}
		above := i%2 == 0 // neighbours in the list are often neighbours in the plot
		if err := addPoint(p, c, above, spreadOf(all, rateOf), spreadOf(all, p99Of)); err != nil {
			return fmt.Errorf("plotting %s: %w", c.name, err)
		}
	}
	p.X.Max *= 1.1 // room for a name
	margin := vg.Points(12)
	canvas := vgsvg.New(9*vg.Inch, 5*vg.Inch)
	p.Draw(draw.Crop(draw.New(canvas), margin, -2*margin, margin, -margin))
	var image bytes.Buffer
	if _, err := canvas.WriteTo(&image); err != nil {
		return fmt.Errorf("plotting: %w", err)
	}
	return os.WriteFile(file, image.Bytes(), 0o644)
}

// wholeTicks are the library's, without decimals.
func wholeTicks(least, most float64) []plot.Tick {
	all := plot.DefaultTicks{}.Ticks(least, most)
	for i, t := range all {
		if t.Label != "" { // a large one
			all[i].Label = fmt.Sprintf("%.0f", t.Value)
		}
	}
	return all
}

// ticks are 1, 2 and 5 in every decade.
func ticks(least, most float64) []plot.Tick {
	var all []plot.Tick
	for decade := math.Pow(10, math.Floor(math.Log10(least))); decade <= most; decade *= 10 {
		for _, digit := range []float64{1, 2, 5} {
			if at := digit * decade; at >= least && at <= most {
				all = append(all, plot.Tick{Value: at, Label: fmt.Sprint(at)})
			}
		}
	}
	return all
}

// point is one with errors, as plotter wants it.
type point struct {
	plotter.XYs
	plotter.XErrors
	plotter.YErrors
}

func addPoint(p *plot.Plot, c contestant, above bool, rate, p99 spread) error {
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
	if !above {
		label.Offset.Y = vg.Points(-11)
	}
	p.Add(x, y, dot, label)
	return nil
}
