"""Sound separation methods behind one interface, judged by one evaluator."""

__version__ = "0.1.0"
