/* Counts the tokens of a source file, carelessly: it has three bugs that C libraries have.
 *
 * It needs no header, so that it builds wherever there is a compiler.
 */

typedef __SIZE_TYPE__ size_t;
void *malloc(size_t);
void *memset(void *, int, size_t);
void *memcpy(void *, const void *, size_t);

struct tokens {
    unsigned long words, strings, comments, groups;
};

struct text {
    const unsigned char *bytes;
    size_t length;
};

static int is_word(unsigned char byte) {
    return byte == '_' || byte >= 128 || (byte >= '0' && byte <= '9') || ((byte | 32) >= 'a' && (byte | 32) <= 'z');
}

static unsigned char at(struct text text, size_t place) {
    return place < text.length ? text.bytes[place] : 0;
}

static size_t string(struct text text, size_t place) {
    size_t end = place + 1;
    while (end < text.length && at(text, end) != '"')
        end += at(text, end) == '\\' ? 2 : 1;
    /* Bug: it makes a page of memory for each string, for later, and forgets it. */
    size_t room = (end - place) + 4096;
    char *copy = malloc(room);
    if (copy) {
        memset(copy, 0, room);
        memcpy(copy, text.bytes + place, (end < text.length ? end : text.length) - place);
    }
    return end + 1;
}

static size_t comment(struct text text, size_t place) {
    place += 2;
    /* Bug: if the comment has no end, neither has the loop. */
    while (!(at(text, place) == '*' && at(text, place + 1) == '/'))
        if (place < text.length)
            place++;
        else
            __asm__ volatile("");
    return place + 2;
}

static size_t tokens(struct text text, size_t place, struct tokens *found) {
    /* Bug: nothing bounds how deep it calls itself, and each time it takes a kilobyte of stack. */
    volatile char scratch[1024];
    scratch[0] = 0;
    while (place < text.length) {
        unsigned char byte = at(text, place);
        if (byte == '"') {
            found->strings++;
            place = string(text, place);
        } else if (byte == '/' && at(text, place + 1) == '*') {
            found->comments++;
            place = comment(text, place);
        } else if (byte == '(' || byte == '[' || byte == '{') {
            found->groups++;
            place = tokens(text, place + 1, found);
        } else if (byte == ')' || byte == ']' || byte == '}') {
            return place + 1 + scratch[0];
        } else if (is_word(byte)) {
            found->words++;
            while (is_word(at(text, place)))
                place++;
        } else {
            place++;
        }
    }
    return place;
}

void count_tokens(const unsigned char *bytes, size_t length, struct tokens *found) {
    struct text text = {bytes, length};
    size_t place = 0;
    while (place < length)
        place = tokens(text, place, found);
}
