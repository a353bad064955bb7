package workload

// References returns the kinds of a table, each as Kind and its preferred APIVersion.
func (t *Table) References() []Reference {
	all := make([]Reference, len(t.kinds))
	for i, d := range t.kinds {
		all[i] = Reference{APIVersion: d.APIVersions()[0], Kind: d.Kind}
	}
	return all
}
