"""Reading labelled images from the formats in which they are found on a disk."""
