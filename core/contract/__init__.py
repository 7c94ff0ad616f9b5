"""What a plugin is: components, hooks, settings, interfaces, and the registry that finds them."""
