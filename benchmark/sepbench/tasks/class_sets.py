"""Named lists of classes, so that a command line can ask for fifty of them in a word."""

from __future__ import annotations

ESC10 = (
    "chainsaw", "clock_tick", "crackling_fire", "crying_baby", "dog", "helicopter", "rain", "rooster", "sea_waves", "sneezing",
)  # fmt: skip
ESC50 = (
    "airplane", "breathing", "brushing_teeth", "can_opening", "car_horn", "cat", "chainsaw", "chirping_birds", "church_bells",
    "clapping", "clock_alarm", "clock_tick", "coughing", "cow", "crackling_fire", "crickets", "crow", "crying_baby", "dog",
    "door_wood_creaks", "door_wood_knock", "drinking_sipping", "engine", "fireworks", "footsteps", "frog", "glass_breaking",
    "hand_saw", "helicopter", "hen", "insects", "keyboard_typing", "laughing", "mouse_click", "pig", "pouring_water", "rain",
    "rooster", "sea_waves", "sheep", "siren", "sneezing", "snoring", "thunderstorm", "toilet_flush", "train",
    "vacuum_cleaner", "washing_machine", "water_drops", "wind",
)  # fmt: skip
CLASS_SETS = {"esc10": ESC10, "esc50": ESC50}  # Piczak 2015: the whole corpus, and the part of it that is easiest to tell apart
