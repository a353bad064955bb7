package workload

// References returns the kinds of workload, as APIVersion and Kind.
func References() []Reference {
	return []Reference{
		{APIVersion: "apps/v1", Kind: "Deployment"}, {APIVersion: "apps/v1", Kind: "StatefulSet"},
		{APIVersion: "batch/v1", Kind: "Job"},
	}
}
