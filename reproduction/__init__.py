"""What ``reproduce.py`` is made of. What is where:

- the command: ``order`` (what is asked for), ``targets`` (tables and figures: nets, rows, conclusions)
- training: ``workshop`` (copies of model directories), ``miniature`` (small ones, ``toyset`` draws their data),
  ``stages`` (processes that follow one another, each a ``child``), ``pretrain`` and ``scored`` (what these run, too)
- single targets: ``studies`` (section 4.3), ``pictures`` (Figures 4 and 6, Table 3), ``measured`` (what is not trained)
- measuring: ``architecture``, ``timing``, ``patchwise`` (section 3.1), ``stitching`` (section 3.2)
- what comes of it: ``records``, ``paper`` (the paper's numbers), ``tables``, ``figures``, ``readme``, ``sources``
"""
