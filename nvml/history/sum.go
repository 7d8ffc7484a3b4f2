package history

// sum adds up seconds and minutes of one step.
type sum struct {
	points [MaxFigures]uint64
	total  [MaxFigures]float64
	max    [MaxFigures]float64
	any    bool
}

func (s *sum) addSecond(p *second) {
	s.any = true
	for figure, value := range p.All() {
		s.add(figure, 1, value, value)
	}
}

func (s *sum) addMinute(m *minute) {
	s.any = true
	for figure, points := range m.points {
		if points > 0 {
			s.add(Figure(figure), uint64(points), float64(m.mean[figure]), float64(m.max[figure]))
		}
	}
}

func (s *sum) add(figure Figure, points uint64, mean, greatest float64) {
	if s.points[figure] == 0 || greatest > s.max[figure] {
		s.max[figure] = greatest
	}
	s.points[figure] += points
	s.total[figure] += mean * float64(points)
}

// minute is the sum of one minute's seconds.
func (s *sum) minute(time int64) minute {
	m := minute{time: time}
	for figure, points := range s.points {
		if points > 0 {
			m.points[figure] = uint8(points)
			m.mean[figure] = float32(s.total[figure] / float64(points))
			m.max[figure] = float32(s.max[figure])
		}
	}
	return m
}

func (s *sum) point() (p Point) {
	for figure, points := range s.points {
		if points > 0 {
			p.Mean.Set(Figure(figure), s.total[figure]/float64(points))
			p.Max.Set(Figure(figure), s.max[figure])
		}
	}
	return p
}
