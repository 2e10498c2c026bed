"""What the scripts ``data/*/prepare.py`` share; imports no engine. What is where:

- commands: ``command`` (get, prepare, check), ``checks`` (the table of facts), ``facts`` (what is published)
- getting: ``archives`` (what, and where from), ``fetch``, ``part`` (downloads), ``unpack``, ``members``, ``kinds``
- weights: ``weights`` (what is published), ``weight_files``
- data sets: ``labels`` (how each stores them), ``convert`` (.mat to PNG), ``splits``, ``pairs``, ``voc``,
  ``voc_sample``, ``submission`` (for VOC's evaluation server), ``nyud``, ``nyud_mat``, ``nyud_check``
- one's own data: ``own``, ``own_check``, ``bands`` (channels), ``masks``, ``meaning``, ``remap``, ``model_texts``
- synthetic twins: ``scenes``, ``rooms``, ``outdoors``, ``drawing``, ``twins``, ``twin_pascal``, ``twin_sheet``,
  ``layouts``
- all of these: ``locks`` (one run at a time), ``processes``
"""
