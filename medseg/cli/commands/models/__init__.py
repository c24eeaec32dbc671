"""Commands about architectures, weights and models of other projects."""
