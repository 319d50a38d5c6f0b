"""Machines, and what is measured on them: names, units, limits.

The limits are the plant's own standard. They hold whatever the unit in a message is; a message
may name one, but never another.
"""

from dataclasses import dataclass

# Prefix of the asset's number, and what people call the machine.
ASSETS = {
    "CNC": {"en": ["machining centre", "mill"], "de": ["Bearbeitungszentrum", "Fräse"]},
    "LATHE": {"en": ["turning cell", "lathe"], "de": ["Drehzelle", "Drehmaschine"]},
    "PRESS": {"en": ["stamping press", "press"], "de": ["Stanzpresse", "Presse"]},
    "CONV": {"en": ["conveyor", "belt line"], "de": ["Förderer", "Bandstrecke"]},
    "ROB": {"en": ["robot", "welding robot"], "de": ["Roboter", "Schweißroboter"]},
    "PUMP": {"en": ["pump", "transfer pump"], "de": ["Pumpe", "Förderpumpe"]},
    "COMP": {"en": ["compressor", "air compressor"], "de": ["Kompressor", "Verdichter"]},
    "IMM": {"en": ["injection moulder", "moulding machine"], "de": ["Spritzgießmaschine", "Spritzguss"]},
    "OVEN": {"en": ["oven", "curing oven"], "de": ["Ofen", "Härteofen"]},
    "PACK": {"en": ["packer", "carton packer"], "de": ["Packer", "Kartonierer"]},
    "PAL": {"en": ["palletiser", "pack cell"], "de": ["Palettierer", "Packzelle"]},
    "LINE": {"en": ["line", "assembly line"], "de": ["Linie", "Montagelinie"]},
}


@dataclass(frozen=True)
class Unit:
    """A unit: factor and offset from the base unit, decimals, and how people write it."""

    name: str
    factor: float
    offset: float
    decimals: int
    spellings: tuple


@dataclass(frozen=True)
class Metric:
    """A measured quantity; `rising` says on which side of the limits trouble is."""

    key: str
    category: str
    names: dict
    units: tuple
    rising: bool
    warning: float
    critical: float
    low: float
    high: float

    def level(self, value):
        """0 well, 1 warning, 2 critical."""
        if not self.rising:
            return 2 if value <= self.critical else 1 if value <= self.warning else 0
        return 2 if value >= self.critical else 1 if value >= self.warning else 0

    def span(self, level):
        """The range of values at this level."""
        edges = [self.low, self.warning, self.critical, self.high]
        if not self.rising:
            edges = [self.high, self.warning, self.critical, self.low]
        return tuple(sorted(edges[level:level + 2]))


def _percent(*more):
    return Unit("%", 1, 0, 0, ("%", " %", *more))


_CELSIUS = Unit("C", 1, 0, 0, ("C", "°C", " °C", " degC"))
_FAHRENHEIT = Unit("F", 1.8, 32, 0, ("F", "°F", " degF"))


def _bar(decimals):
    return Unit("bar", 1, 0, decimals, ("bar", " bar"))


def _psi():
    return Unit("psi", 14.504, 0, 0, ("psi", " psi", " PSI"))


METRICS = [
    Metric("vibration", "bearing",
           {"en": ["vibration", "spindle vibration", "vib rms", "bearing vibration"],
            "de": ["Schwingung", "Vibration", "Spindelschwingung"]},
           (Unit("mm/s", 1, 0, 1, ("mm/s", " mm/s", " mm/sec")), Unit("in/s", 1 / 25.4, 0, 2, ("in/s", " ips"))),
           True, 4.5, 7.1, 0.8, 14.0),
    Metric("bearing_temperature", "bearing",
           {"en": ["bearing temp", "bearing temperature", "brg temp"],
            "de": ["Lagertemperatur", "Lagertemp", "Temperatur Lager"]},
           (_CELSIUS, _FAHRENHEIT), True, 70, 85, 35, 115),
    Metric("coolant_level", "coolant",
           {"en": ["coolant level", "coolant tank level", "cutting fluid level"],
            "de": ["Kühlmittelstand", "KSS-Stand", "Füllstand Kühlmittel"]},
           (_percent(" pct", " percent"),), False, 40, 20, 3, 95),
    Metric("coolant_flow", "coolant",
           {"en": ["coolant flow", "cutting fluid flow"], "de": ["Kühlmittelfluss", "Durchfluss Kühlmittel"]},
           (Unit("l/min", 1, 0, 1, ("l/min", " l/min", "lpm", " L/min")),), False, 8, 4, 0.6, 16),
    Metric("tool_life", "tool",
           {"en": ["tool life", "remaining tool life", "insert life left"],
            "de": ["Werkzeugstandzeit", "Reststandzeit"]},
           (_percent(" pct"),), False, 15, 5, 1, 90),
    Metric("cutting_load", "tool",
           {"en": ["cutting load", "spindle load"], "de": ["Schnittlast", "Spindellast"]},
           (_percent(" pct"),), True, 90, 110, 20, 140),
    Metric("hydraulic_pressure", "hydraulics",
           {"en": ["hydraulic pressure", "hyd pressure", "clamp pressure"],
            "de": ["Hydraulikdruck", "Spanndruck"]},
           (_bar(0), _psi()), False, 140, 110, 60, 200),
    Metric("oil_level", "hydraulics",
           {"en": ["oil level", "hydraulic oil level"], "de": ["Ölstand", "Hydraulikölstand"]},
           (_percent(" pct"),), False, 50, 25, 4, 97),
    Metric("air_pressure", "pneumatics",
           {"en": ["air pressure", "line air pressure", "pneumatic supply"],
            "de": ["Luftdruck", "Druckluft", "Netzdruck Luft"]},
           (_bar(1), _psi()), False, 5.0, 4.0, 2.0, 7.5),
    Metric("vacuum", "pneumatics",
           {"en": ["vacuum level", "gripper vacuum"], "de": ["Vakuum", "Greifervakuum"]},
           (_percent(" pct"),), False, 60, 40, 5, 95),
    Metric("motor_temperature", "motor",
           {"en": ["motor temp", "winding temperature", "motor temperature"],
            "de": ["Motortemperatur", "Wicklungstemperatur"]},
           (_CELSIUS, _FAHRENHEIT), True, 110, 140, 40, 175),
    Metric("motor_current", "motor",
           {"en": ["motor current", "drive current"], "de": ["Motorstrom", "Antriebsstrom"]},
           (_percent("% of rated", "% FLA"),), True, 105, 125, 40, 160),
    Metric("belt_slip", "belt",
           {"en": ["belt slip", "belt speed error", "speed deviation"],
            "de": ["Riemenschlupf", "Schlupf", "Bandabweichung"]},
           (Unit("%", 1, 0, 1, ("%", " %", " pct")),), True, 3.0, 8.0, 0.1, 15.0),
    Metric("position_error", "alignment",
           {"en": ["position error", "following error", "axis deviation"],
            "de": ["Positionsfehler", "Schleppfehler", "Achsabweichung"]},
           (Unit("mm", 1, 0, 2, ("mm", " mm")), Unit("um", 1000, 0, 0, ("um", " um", " µm", " micron"))),
           True, 0.05, 0.15, 0.01, 0.40),
    Metric("phase_imbalance", "electrical",
           {"en": ["phase imbalance", "voltage imbalance"], "de": ["Phasenunsymmetrie", "Spannungsunsymmetrie"]},
           (Unit("%", 1, 0, 1, ("%", " %", " pct")),), True, 2.0, 5.0, 0.1, 9.0),
    Metric("scrap_rate", "quality",
           {"en": ["scrap rate", "reject rate"], "de": ["Ausschussquote", "Ausschuss"]},
           (Unit("%", 1, 0, 1, ("%", " %", " pct")),), True, 3.0, 8.0, 0.1, 15.0),
    Metric("cpk", "quality",
           {"en": ["Cpk", "process capability"], "de": ["Cpk", "Prozessfähigkeit"]},
           (Unit("", 1, 0, 2, ("",)),), False, 1.33, 1.00, 0.60, 2.20),
    Metric("setpoint_deviation", "heating",
           {"en": ["zone deviation", "oven deviation from setpoint", "heater deviation"],
            "de": ["Sollwertabweichung", "Zonenabweichung"]},
           (Unit("K", 1, 0, 0, ("K", " K")),), True, 10, 25, 1, 60),
    Metric("jam_count", "jam",
           {"en": ["jams per hour", "misfeeds per hour"], "de": ["Stauer pro Stunde", "Fehleinzüge pro Stunde"]},
           (Unit("1/h", 1, 0, 0, ("", "/h", " 1/h")),), True, 4, 10, 0, 30),
]

# What to do, by category: for a warning, and when it is critical.
ACTIONS = {
    "bearing": ("inspect_bearing", "stop_spindle"),
    "coolant": ("refill_coolant", "stop_cutting"),
    "tool": ("plan_tool_change", "change_tool_now"),
    "hydraulics": ("check_oil_and_hoses", "stop_pump"),
    "pneumatics": ("check_air_supply", "stop_cell"),
    "motor": ("check_motor_load", "stop_motor"),
    "belt": ("check_belt_tension", "stop_belt"),
    "alignment": ("rerun_homing", "stop_axis"),
    "electrical": ("inspect_cabinet", "isolate_power"),
    "sensor": ("check_sensor", "check_sensor"),
    "quality": ("sample_parts", "quarantine_parts"),
    "heating": ("check_heater", "switch_off_heater"),
    "jam": ("clear_jam", "stop_line"),
    "safety": ("keep_stopped", "keep_stopped"),
    "normal": ("none", "none"),
    "unknown": ("ask_operator", "ask_operator"),
}

SEVERITIES = ("info", "warning", "critical")

# The category's name in running text.
SPOKEN = {
    "bearing": {"en": "bearing", "de": "Lager"},
    "coolant": {"en": "coolant", "de": "Kühlmittel"},
    "tool": {"en": "tool", "de": "Werkzeug"},
    "hydraulics": {"en": "hydraulics", "de": "Hydraulik"},
    "pneumatics": {"en": "pneumatics", "de": "Pneumatik"},
    "motor": {"en": "motor", "de": "Motor"},
    "belt": {"en": "belt", "de": "Band"},
    "alignment": {"en": "alignment", "de": "Ausrichtung"},
    "electrical": {"en": "electrical", "de": "Elektrik"},
    "sensor": {"en": "sensor", "de": "Sensor"},
    "quality": {"en": "quality", "de": "Qualität"},
    "heating": {"en": "heating", "de": "Heizung"},
    "jam": {"en": "jam", "de": "Stau"},
    "safety": {"en": "safety", "de": "Sicherheit"},
}
