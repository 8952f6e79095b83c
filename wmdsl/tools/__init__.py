"""The command line and what it calls; each verb is a module with a function of its name."""
