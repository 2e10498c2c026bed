"""Train late fusion from the two nets that saw colour and HHA alone (section 5)."""

import training

SEEN = {
    "color": training.stage("nyud-fcn32s-color", "nyud-fcn32s-color-heavy", suffix="color"),
    "hha": training.stage("nyud-fcn32s-hha", "nyud-fcn32s-hha-heavy", suffix="hha"),
}

if __name__ == "__main__":
    training.main(__file__, *SEEN.values(), rounds=25)
