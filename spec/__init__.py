"""What a model is: layers, shapes, the graph, the YAML that describes them. Imports none of the other packages."""
