graph [
  Note "1 degree of latitude is 111.195 km; two links between the first and the second node, no labels, one without place"
  node [
    id 7
    Latitude 0.0
    Longitude 10.0
  ]
  node [
    id 3
    Latitude 1.0
    Longitude 10.0
  ]
  node [
    id 5
    label "inland"
  ]
  edge [
    source 7
    target 3
    LinkSpeedRaw 1000000000.0
  ]
  edge [
    source 7
    target 3
    LinkSpeedRaw 2500000000.0
  ]
  edge [
    source 3
    target 5
    LinkSpeedRaw 155000000.0
  ]
]
