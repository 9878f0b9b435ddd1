"""The DLA of a Jetson: which layers it takes, by rule or by asking TensorRT, and what that costs in hops.

    graph + accelerator --plan_dla--> DlaPlan: DLA or GPU with the reason, hops between them, subnetworks
"""
