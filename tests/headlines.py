"""Headlines of our own, (text, label), for tests of the shipped model: none of them stands in any data set."""

HEADLINES = [
    ("Prime minister flies to border talks as ceasefire holds", "World"),
    ("Rebels release hostages after weeks of negotiation with the army", "World"),
    ("Voters queue for hours in first election since the civil war ended", "World"),
    ("Foreign ministers condemn the bombing and call for an emergency summit", "World"),
    ("Thousands march in the capital against the new president", "World"),
    ("UN peacekeepers arrive in the flooded province with food and tents", "World"),
    ("Striker scores twice as the visitors win the derby in extra time", "Sports"),
    ("Veteran pitcher throws a shutout to level the series", "Sports"),
    ("Quarterback out for the season with a knee injury, coach says", "Sports"),
    ("Teenager stuns the top seed to reach the tennis semi-finals", "Sports"),
    ("Olympic champion withdraws from the marathon", "Sports"),
    ("Captain hits century as the tourists take a first innings lead", "Sports"),
    ("Shares slide as the retailer cuts its profit forecast for the quarter", "Business"),
    ("Oil prices hit a record as investors worry about supply", "Business"),
    ("Central bank raises interest rates by a quarter point", "Business"),
    ("Airline files for bankruptcy protection and will cut 3,000 jobs", "Business"),
    ("Drug maker agrees to buy its smaller rival for 4 billion dollars in cash", "Business"),
    ("Consumer prices rise less than economists expected in October", "Business"),
    ("New browser release fixes a security hole that hackers exploited", "Sci/Tech"),
    ("Astronomers find a planet with water vapour in its atmosphere", "Sci/Tech"),
    ("Chip maker unveils a faster dual core processor for laptops", "Sci/Tech"),
    ("Software giant sues three spammers over forged email", "Sci/Tech"),
    ("Space probe sends first pictures of the moon of Saturn", "Sci/Tech"),
    ("Researchers sequence the genome of the honey bee", "Sci/Tech"),
]
TEXTS = [text for text, _ in HEADLINES]


def unique(count: int) -> list[str]:
    """Return `count` different texts of 10 to 100 words: headlines after one another, numbered."""
    return [
        " ".join([f"Report {i}:", *(TEXTS[(i * 7 + j) % len(TEXTS)] for j in range(1 + i % 9))]) for i in range(count)
    ]
