"""What is published about each data set: numbers that :mod:`checks <datakit.checks>` hold a copy against."""

FACTS = {
    "pascal": {
        "voc2011 train": 1112,
        "voc2011 val": 1111,
        "voc2012 train": 1464,
        "voc2012 val": 1449,
        "sbd train": 8498,
        "sbd val": 2857,
        "sbd train sha256": "de43eb458a91e941172dcb54b6e7996387dc07b9e2c96a5a14e827b9c45e9aeb",
        "seg11valid": 736,
        "seg11valid sha256": "4ca991bd72c251fd2485eaa9e29536502ea3800d1b1c17c151fd6a04bcfbc2cc",
        "voc2012 val minus sbd train": 904,
    },
    "nyud": {
        "trainval": 795,
        "test": 654,
        "first id": 5001,
        "last id": 6449,
        "width": 560,
        "height": 425,
        # of R, G, B; of ln millimetres; of disparity, height, angle
        "mean color": [116.190, 97.203, 92.318],
        "mean depth": 7.844,
        "mean hha": [132.431, 94.076, 118.477],
    },
    "sift-flow": {
        "trainval": 2486,
        "test": 200,
        "width": 256,
        "height": 256,
        "not annotated": ["highway_bost181", "street_urb506"],
        "absent from test": ["cow", "desert", "moon"],
        "mean": [114.578, 115.294, 108.353],  # of B, G, R
    },
    "pascal-context": {"train": 4998, "val": 5105},
}
