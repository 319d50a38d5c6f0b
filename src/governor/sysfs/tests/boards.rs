//! What the reader makes of boards. The trees hold what such boards show, as far as it is read.

use super::*;

fn names(readings: &Readings) -> Vec<&str> {
    let thermometers = readings.thermometers.iter();
    thermometers.map(|thermometer| &*thermometer.name).collect()
}

#[test]
fn raspberry_pi_4_and_5() {
    let tree = Tree::new();
    tree.zone(0, "cpu-thermal", "48686", &[("critical", "110000")])
        .hwmon(
            0,
            "cpu_thermal",
            &[("temp1_input", "48686"), ("temp1_crit", "110000")],
        )
        .hwmon(1, "rpi_volt", &[("in0_lcrit_alarm", "0")])
        .policy(0, "600000", "1500000", "1500000");
    let readings = tree.read();
    assert_eq!(names(&readings), ["cpu-thermal"], "the zone is shown twice");
    assert_eq!(readings.thermometers[0].limits.critical, Some(110_000));
    assert_eq!(readings.clock_cap(), Some(1.0));

    let tree = Tree::new();
    let fans = [
        ("active", "50000"),
        ("active", "60000"),
        ("critical", "110000"),
    ];
    tree.zone(0, "cpu-thermal", "51250", &fans)
        .hwmon(0, "cpu_thermal", &[("temp1_input", "51250")])
        .hwmon(
            1,
            "rp1_adc",
            &[("in1_input", "1477"), ("temp1_input", "52812")],
        )
        .hwmon(2, "pwmfan", &[("fan1_input", "3100"), ("pwm1", "75")])
        .policy(0, "1500000", "1500000", "2400000")
        .cooling(0, "pwm-fan", "1", "4");
    let readings = tree.read();
    assert_eq!(names(&readings), ["cpu-thermal", "rp1_adc temp1"]);
    let limits = readings.thermometers[0].limits;
    assert_eq!((limits.passive, limits.critical), (None, Some(110_000)));
    assert_eq!(readings.clock_cap(), Some(0.625), "slowed down");
    assert_eq!(readings.cooling[0].state, Some(1));
    assert_eq!(readings.cooling[0].highest, Some(4));
}

/// A Jetson Orin NX.
pub(super) fn orin(tree: &Tree) {
    let trips = [
        ("active", "46000"),
        ("passive", "99000"),
        ("hot", "70000"),
        ("critical", "104500"),
    ];
    tree.zone(0, "cpu-thermal", "47656", &trips)
        .zone(1, "gpu-thermal", "45125", &trips)
        .zone(2, "cv0-thermal", "", &trips) // EAGAIN on the board
        .zone(8, "tj-thermal", "48031", &trips)
        .hwmon(
            0,
            "tmp451",
            &[
                ("temp1_input", "43000"),
                ("temp2_input", "47000"),
                ("temp2_fault", "0"),
            ],
        )
        .hwmon(
            3,
            "ina3221",
            &[
                ("in1_label", "VDD_IN"),
                ("in1_input", "5040"),
                ("curr1_input", "1200"),
                ("curr1_crit", "4999"),
                ("in2_label", "VDD_CPU_GPU_CV"),
                ("in2_input", "5032"),
                ("curr2_input", "240"),
                ("in3_label", "NC"),
                ("in3_input", "5032"),
                ("curr3_input", "0"),
                ("curr4_input", "1440"),
                ("in4_input", "3"),
                ("in7_label", "sum of shunt voltages"),
                ("in7_input", "9"),
            ],
        )
        .policy(0, "729600", "1190400", "1984000")
        .policy(4, "729600", "1984000", "1984000")
        .cooling(0, "cpufreq-cpu0", "3", "20")
        .cooling(1, "pwm-fan", "2", "10")
        .files(
            "sys/class/devfreq/17000000.gpu",
            &[
                ("cur_freq", "306000000"),
                ("max_freq", "612000000"),
                ("available_frequencies", "306000000 408000000 918000000"),
            ],
        )
        .files("sys/class/devfreq/17000000.gpu/device", &[("load", "437")])
        .files("sys/devices/platform/17000000.gpu", &[("load", "437")])
        .files(
            "sys/class/devfreq/15340000.vic",
            &[("cur_freq", "115200000")],
        );
}

#[test]
fn jetson_orin() {
    let tree = Tree::new();
    orin(&tree);
    let readings = tree.read();
    let expected = [
        "cpu-thermal",
        "gpu-thermal",
        "cv0-thermal",
        "tj-thermal",
        "tmp451 temp1",
        "tmp451 temp2",
    ];
    assert_eq!(names(&readings), expected);
    let limits = readings.thermometers[0].limits;
    assert_eq!(limits.passive, Some(99_000));
    assert_eq!((limits.hot, limits.critical), (Some(70_000), Some(104_500)));
    let [input, cores] = &readings.rails[..] else {
        panic!("two rails: {:?}", readings.rails);
    };
    assert_eq!((&*input.name, input.milliwatts), ("VDD_IN", Some(6048)));
    assert_eq!(
        (&*cores.name, cores.milliamperes),
        ("VDD_CPU_GPU_CV", Some(240))
    );
    assert_eq!(
        readings.power_milliwatts(),
        Some(6048),
        "the input, not the sum"
    );
    let [gpu] = &readings.gpus[..] else {
        panic!("one processor, found once: {:?}", readings.gpus);
    };
    assert_eq!(gpu.load, Some(0.437));
    assert_eq!(
        (gpu.allowed_hz, gpu.hardware_hz),
        (Some(612_000_000), Some(918_000_000))
    );
    assert_eq!(readings.clock_cap(), Some(0.6));
}

/// Meters as kernels before 5.10 show them.
pub(super) fn xavier_rails(tree: &Tree) {
    tree.files(
        "sys/bus/i2c/drivers/ina3221x/1-0040/iio:device0",
        &[
            ("rail_name_0", "GPU"),
            ("in_voltage0_input", "19064"),
            ("in_current0_input", "40"),
            ("in_power0_input", "762"),
            ("rail_name_1", "CPU"),
            ("in_voltage1_input", "19056"),
            ("in_current1_input", "56"),
            ("in_power1_input", "1067"),
        ],
    )
    .files("sys/devices/gpu.0", &[("load", "1000")]);
}

#[test]
fn jetson_xavier_with_an_older_kernel() {
    let tree = Tree::new();
    tree.zone(0, "CPU-therm", "38000", &[])
        .zone(5, "PMIC-Die", "100000", &[]);
    xavier_rails(&tree);
    let readings = tree.read();
    let watts: Vec<_> = readings
        .rails
        .iter()
        .map(|rail| (&*rail.name, rail.milliwatts))
        .collect();
    assert_eq!(watts, [("GPU", Some(762)), ("CPU", Some(1067))]);
    assert_eq!(readings.power_milliwatts(), Some(1829));
    assert_eq!(readings.gpu_load(), Some(1.0));
}

#[test]
fn imx8mp() {
    let tree = Tree::new();
    let trips = [("passive", "85000"), ("critical", "95000")];
    tree.zone(0, "cpu-thermal", "46000", &trips)
        .zone(1, "soc-thermal", "45000", &trips)
        .hwmon(
            0,
            "tmp105",
            &[("temp1_input", "31500"), ("temp1_max", "80000")],
        )
        .policy(0, "1200000", "1800000", "1800000")
        .cooling(0, "cpufreq-cpu0", "0", "3")
        .files(
            "sys/class/devfreq/38000000.gpu",
            &[("cur_freq", "800000000"), ("load", "43@800000000Hz")],
        );
    let readings = tree.read();
    assert_eq!(
        names(&readings),
        ["cpu-thermal", "soc-thermal", "tmp105 temp1"]
    );
    assert_eq!(readings.thermometers[1].limits.passive, Some(85_000));
    assert_eq!(readings.thermometers[2].limits.max, Some(80_000));
    assert_eq!(readings.gpu_load(), Some(0.43));
    assert!(readings.rails.is_empty());
}

#[test]
fn a_laptop() {
    let tree = Tree::new();
    tree.zone(0, "acpitz", "27800", &[("critical", "119000")])
        .zone(
            1,
            "x86_pkg_temp",
            "52000",
            &[("passive", "0"), ("passive", "0")],
        )
        .hwmon(0, "acpitz", &[("temp1_input", "27800")])
        .hwmon(
            4,
            "coretemp",
            &[
                ("temp1_label", "Package id 0"),
                ("temp1_input", "52000"),
                ("temp1_max", "100000"),
                ("temp1_crit", "100000"),
                ("temp10_label", "Core 8"),
                ("temp10_input", "49000"),
                ("temp2_label", "Core 0"),
                ("temp2_input", "50000"),
            ],
        )
        .hwmon(5, "BAT0", &[("in0_input", "12100")])
        .hwmon(
            6,
            "nvme",
            &[("temp1_label", "Composite"), ("temp1_input", "38850")],
        )
        .cooling(0, "Processor", "0", "10")
        .cooling(1, "intel_powerclamp", "-1", "50");
    let readings = tree.read();
    let expected = [
        "acpitz",
        "x86_pkg_temp",
        "coretemp Package id 0",
        "coretemp Core 0",
        "coretemp Core 8",
        "nvme Composite",
    ];
    assert_eq!(names(&readings), expected);
    assert_eq!(readings.thermometers[2].limits.critical, Some(100_000));
    assert_eq!(readings.cooling[1].state, None);
    assert!(readings.rails.is_empty());
}
