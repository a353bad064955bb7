package scoring

// locationFactor is the sum of the policies' location terms for a cluster.
var locationFactor = termFactor("location", Location)
