/* Opens a file as the engine does, without a cage. */
#include <stdio.h>
int main(int count, char **words) { return count > 1 && fopen(words[1], "rb") ? 0 : 1; }
