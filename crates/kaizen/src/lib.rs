//! Close the loop of machine learning inside the program that links it.
