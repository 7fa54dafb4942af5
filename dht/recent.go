// SPDX-License-Identifier: GPL-2.0-or-later

package dht

// recent is a map that forgets what was written longest ago: it holds at most
// 2 × half entries, and the last half for certain. It has no lock.
type recent[K comparable, V any] struct {
	half       int
	young, old map[K]V
}

func newRecent[K comparable, V any](half int) *recent[K, V] {
	return &recent[K, V]{half: half, young: make(map[K]V)}
}

func (r *recent[K, V]) get(key K) (V, bool) {
	if v, ok := r.young[key]; ok {
		return v, true
	}
	v, ok := r.old[key]
	return v, ok
}

func (r *recent[K, V]) put(key K, v V) {
	if _, ok := r.young[key]; !ok && len(r.young) >= r.half {
		r.old, r.young = r.young, make(map[K]V)
	}
	r.young[key] = v
}
