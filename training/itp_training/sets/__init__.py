"""Training of set models, schema 2: one network for any number of streams, both orders and any preference.

Approximate policy iteration. Rounds of episodes are played under the present network; for a share of the
decisions every candidate is tried in a copy of the world, and the network learns what each of them costs.
"""
