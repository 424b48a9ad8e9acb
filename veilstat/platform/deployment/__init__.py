"""The processes of a deployment: owners' agents, the coordinator with its gateway, Ray nodes, and the analyst's connection."""
