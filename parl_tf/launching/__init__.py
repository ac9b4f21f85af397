"""Starting and watching the roles of a distributed run."""
