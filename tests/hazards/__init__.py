"""Everything from outside that could break a hub, each hazard as a test of its own.

Other processes that are killed, stopped or race with ours at the worst instruction, and the system they run on: pid
namespaces, full shared memory, exhausted descriptors, hostile files. Whatever a module's own tests show already stands
there; here are the hazards that belong to no module alone.
"""
