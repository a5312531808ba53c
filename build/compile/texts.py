"""Texts to compare graphs on where no rows are at hand: headlines of our own, and what no article looks like."""

from newsdesk.build.compile.verify import EXTREMES

HEADLINES = [
    "Ministers meet at the border as the truce enters its second week",
    "Voters wait for hours in the first election since the war",
    "Rescue teams reach the valley a day after the earthquake",
    "Protesters fill the square and demand that the president resign",
    "Court orders the former general to stand trial for war crimes",
    "Aid convoy turned back at the checkpoint, relief agencies say",
    "Keeper saves two penalties and sends the club to the final",
    "Sprinter misses the world record by a hundredth of a second",
    "Rookie hits three home runs as the visitors sweep the series",
    "Coach resigns after the ninth defeat in a row",
    "Champion beats the qualifier in straight sets under the lights",
    "League fines the captain for his words to the referee",
    "Shares of the airline fall as fuel costs eat its profit",
    "Central bank leaves rates alone and warns of rising prices",
    "Grocer to close forty shops and cut two thousand jobs",
    "Oil climbs above its record on fears for supply from the gulf",
    "Regulator clears the merger of the two largest insurers",
    "Carmaker raises its forecast on strong sales in Asia",
    "Engineers show a chip that doubles the memory of a phone",
    "Flaw in a popular browser lets attackers read saved passwords",
    "Probe lands on the comet and sends its first pictures home",
    "Search company opens its maps to other programmers",
    "Researchers teach a robot to fold laundry by watching people",
    "Fossil of a feathered dinosaur is found in a desert quarry",
    "Markets",
    "The company that makes the satellites for the broadcaster of the championship said on Monday that its loss for "
    "the quarter was larger than expected, because two launches were put off after the government of the country with "
    "the launch site closed its airspace during the fighting along the border.",
]
# Cut to some windows each: hundreds would say nothing new, and a small device reads few a second.
TEXTS = [*HEADLINES, *(text[:3000] for text in EXTREMES.values())]
