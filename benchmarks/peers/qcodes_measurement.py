"""QCoDeS `Measurement` and `add_result`: two sets, two gets and one result per point."""

from qcodes.dataset import Measurement
from qcodes_parts import VERSION, Pair, fresh_database
from serve import serve


def main():
    pair = Pair("pair")

    def scan(n):
        measurement = Measurement()
        for setpoint in (pair.x, pair.y):
            measurement.register_parameter(setpoint)
        for reading in (pair.a, pair.b):
            measurement.register_parameter(reading, setpoints=(pair.x, pair.y))
        with measurement.run() as saver:
            for value in (i / n for i in range(n)):
                pair.x(value)
                pair.y(value)
                saver.add_result((pair.x, value), (pair.y, value), (pair.a, pair.a()), (pair.b, pair.b()))

    with fresh_database():
        serve(VERSION, scan)


if __name__ == "__main__":
    main()
