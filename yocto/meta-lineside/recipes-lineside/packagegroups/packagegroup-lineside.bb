SUMMARY = "All that a board with a data partition needs of lineside"
DESCRIPTION = "The service, the model package that comes along, its state on a partition of its own, and \
    the technicians' serial console."
SECTION = "applications"

inherit packagegroup

RDEPENDS:${PN} = "\
    lineside \
    lineside-data \
    lineside-models-default \
    lineside-serial \
"
