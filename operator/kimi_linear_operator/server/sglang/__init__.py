"""The facts about serving Kimi-Linear with SGLang on AMD GPUs.

The facts come from the recipe (SGLang's cookbook page for Kimi-Linear) and from the source code of SGLang 0.5.7; each
constant names its source. These modules use no part of Kubernetes except the fields of a container.
"""
