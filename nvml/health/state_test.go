package health

import "testing"

func TestEveryPairOfStateAndStimulus(t *testing.T) {
	stimuli := []stimulus{watch, rest, fail, rested, calm, uncordon}
	for from, row := range map[State][6]State{
		//         watch     rest      fail      rested    calm      uncordon
		Healthy:  {Watched, Resting, Cordoned, Healthy, Healthy, Healthy},
		Watched:  {Watched, Resting, Cordoned, Watched, Healthy, Healthy},
		Resting:  {Resting, Resting, Cordoned, Watched, Healthy, Healthy},
		Cordoned: {Cordoned, Cordoned, Cordoned, Cordoned, Cordoned, Healthy},
	} {
		for i, e := range stimuli {
			if got := from.after(e); got != row[i] {
				t.Errorf("%s after %s is %s, want %s", from, e, got, row[i])
			}
		}
		if from.TakesWork() != (from == Healthy || from == Watched) {
			t.Errorf("%s takes work: %v", from, from.TakesWork())
		}
	}
}
