"""The processes: one parent, workers, the portal; how they start, talk, reload and end.

=============  ====================================================================================
supervisor     the parent: sockets, workers, embedded servers, shipping, signals
crew           the workers and the portal as the parent sees them: started, watched, asked, drained
members        one of them
control        how parent and worker talk
worker         one process that serves
portal         the portal as such a process
serving        what the parent knows of one that serves, and how it is told to end
services       the composition root: which parts a worker is made of
sockets        listening sockets, bound before anything else starts
reload         SIGHUP: all is read and judged anew, and put in force by new workers
ops            the second listener: metrics and health
systemd        what systemd is told
noted_address  where the gateway of a state directory is reached, for commands that print links
=============  ====================================================================================
"""
