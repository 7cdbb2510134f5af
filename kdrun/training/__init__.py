"""Training any model (teacher, student or control): one loop, `fit`, over one step."""
