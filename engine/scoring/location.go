package scoring

// locationFactor is what the policies' location terms say of a cluster.
var locationFactor = termFactor("location", Location)
