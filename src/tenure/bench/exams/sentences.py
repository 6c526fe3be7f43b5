"""Items of the general suite that were written one by one: `prompt|right|wrong|wrong|wrong` a line.

A prompt that ends in `?` is asked in the question form after the table's two examples, any other is completed as it
stands. Knows nothing of models or gates; called by `general.py` only.
"""

from __future__ import annotations

from tenure.bench.exams.tables import Rows

ROWS = (
    Rows(
        "syllogism",
        (
            ("Ice is cold. This is ice. How is it?", "cold"),
            ("Dogs bark. Rex is a dog. What does he do?", "bark"),
        ),
        """
All birds have wings. Tim is a bird. What does Tim have?|wings|wheels|horns|gloves
All fish can swim. Nemo is a fish. What can Nemo do?|swim|sing|drive|read
Every baker makes bread. Anna is a baker. What does Anna make?|bread|shoes|music|cars
All lemons are sour. This is a lemon. How does it taste?|sour|sweet|salty|spicy
Every pilot can fly. Maria is a pilot. What can Maria do?|fly|sew|paint|dance
All ants have six legs. This is an ant. How many legs has it?|six|two|four|ten
All cows eat grass. Bella is a cow. What does Bella eat?|grass|meat|fish|stones
All fire is hot. This is fire. How is it?|hot|cold|sad|angry
Every nurse works in a hospital. Tom is a nurse. Where is he?|in a hospital|in a bakery|on a farm|on a ship
All roses smell sweet. This flower is a rose. How does it smell?|sweet|rotten|burnt|sour
All teachers work at schools. Kate is a teacher. So Kate works at a|school|farm|bank|mine
All cats like milk. Tom is a cat. So Tom likes|milk|wine|sand|rain
All metals conduct electricity. Copper is a metal. So copper conducts|electricity|elephants|sunlight|music
Every bicycle has two wheels. This is a bicycle. So the number of its wheels is|two|six|nine|ten
If it rains, the grass gets wet. It rained. So the grass is|wet|dry|blue|tall
If you drop an egg, it breaks. Ben dropped an egg. So the egg|broke|sang|grew|flew
All trains to Rome are red. This train goes to Rome. So the color of this train is|red|green|white|black
Tom is taller than Sam. Sam is taller than Joe. The tallest of them is|Tom|Sam|Joe|Bob
Every bird hatches from an egg. A duck is a bird. So a duck hatches from an|egg|oven|acorn|onion
All bananas are yellow. This fruit is a banana. So this fruit is|yellow|purple|black|blue
No fish can walk. Goldie is a fish. So Goldie cannot|walk|swim|eat|breathe
All sailors love the sea. Hugo is a sailor. So Hugo loves the|sea|moon|desert|opera
If the lamp is off, the room is dark. The lamp is off. So the room is|dark|bright|noisy|round
""",
    ),
    Rows(
        "physical",
        (
            ("What happens to paper in a fire?", "it burns"),
            ("What happens to a stone in water?", "it sinks"),
        ),
        """
What happens to ice in a warm room?|it melts|it burns|it grows|it sings
What happens to a glass that falls on a stone floor?|it breaks|it bounces|it melts|it floats
What happens to a balloon when a needle touches it?|it pops|it freezes|it rusts|it sinks
What happens to water at minus ten degrees?|it freezes|it boils|it burns|it rises
What happens to water in a pot on a hot stove?|it boils|it freezes|it breaks|it rusts
What happens to a plant without water?|it dies|it sings|it melts|it swims
What happens to wet clothes in the sun?|they dry|they freeze|they shrink|they sink
What happens to a ball that is thrown up?|it falls down|it stays up|it turns blue|it gets warm
What happens to iron that is left in the rain?|it rusts|it grows|it melts|it flies
What happens to a wooden log in a lake?|it floats|it sinks|it burns|it melts
If you put sugar in hot tea, the sugar will|dissolve|explode|freeze|rust
If you leave milk in the sun for days, it will turn|sour|sweet|blue|hot
If you push a shopping cart, it will|move|melt|shrink|sleep
When you switch off the light at night, the room becomes|dark|bright|hot|wet
If you stand in the rain without an umbrella, you get|wet|dry|rich|tall
If you touch a hot stove, you will|burn yourself|freeze yourself|find yourself|wash yourself
A feather is light, but a piano is|heavy|thin|empty|soft
If you eat nothing all day, you will be|hungry|thirsty|full|tall
A stone is hard, but a pillow is|soft|sharp|loud|wet
When the sun sets, the sky gets|dark|bright|loud|hard
If you put a metal spoon in hot soup, the spoon gets|hot|wide|old|sick
If you run very fast for an hour, you will feel|tired|cold|bored|young
If there is no wind, a sailing boat will|not move|go faster|fly away|catch fire
""",
    ),
    Rows(
        "reading",
        (
            ("Anna bought a hat. What did she buy?", "a hat"),
            ("Karl lives in Rome. Where does he live?", "in Rome"),
        ),
        """
Lisa put the keys in the drawer. Where are the keys?|in the drawer|in the car|on the table|in the garden
Tom went to the beach on Sunday. When did Tom go to the beach?|on Sunday|on Monday|on Friday|on Tuesday
The red car stopped in front of the bank. What colour was the car?|red|blue|white|black
Maria gave her brother a book. Who got the book?|her brother|her sister|her teacher|her mother
The train was late because of the snow. Why was it late?|snow|a strike|heat|a cow
Paul ate three apples and one pear. How many apples did Paul eat?|three|one|two|five
The old man fed the ducks in the park. What did the old man feed?|the ducks|the dogs|the horses|the fish
Emma plays the piano and her sister plays the flute. What does Emma play?|the piano|the flute|the drums|the violin
The left box is full, the right box is empty. Which is empty?|the right one|the left one|both of them|none of them
Dan drinks coffee in the morning and tea at night. What does Dan drink at night?|tea|coffee|milk|water
Mother baked a cake for Nina's birthday. Who had a birthday?|Nina|Mother|Peter|Father
The cat is sleeping under the bed. The cat is under the|bed|table|tree|car
The doctor told Jim to drink more water. Jim should drink more|water|wine|coffee|beer
The blue house belongs to Mr Hill. The owner of the blue house is Mr|Hill|Stone|Wood|Lake
It was raining, so Sara took her umbrella. Sara took the umbrella because of the|rain|sun|dog|bus
Ben lost his wallet on the bus. The thing that Ben lost was his|wallet|phone|jacket|ticket
The museum opens at ten and closes at six. The museum closes at|six|ten|nine|two
Grandma knitted a scarf for Leo. The scarf was made for|Leo|Grandma|Anna|Max
The farmer has twenty cows and one horse. The farmer has one|horse|cow|sheep|goat
Our neighbour is a teacher and her husband is a cook. Her husband's job is|cook|teacher|pilot|nurse
The letter came from Canada on Friday. The letter came from|Canada|France|Brazil|India
Julia forgot to feed the fish before the trip. Julia forgot to feed the|fish|dog|cat|bird
""",
    ),
    Rows(
        "causes",
        (
            ("Why do people wear coats in winter?", "to stay warm"),
            ("Why do people eat?", "because they are hungry"),
        ),
        """
Why do people use an umbrella?|to stay dry|to get taller|to stay awake|to find food
Why do people go to bed at night?|to sleep|to work|to swim|to cook
Why do people wear glasses?|to see better|to hear better|to run faster|to smell good
Why do people wear sunscreen?|to protect their skin|to keep warm at night|to make food taste good|to learn to swim
Why do people put food in a refrigerator?|to keep it fresh|to make it hot|to make it louder|to keep it dry
Why do people brush their teeth?|to keep them clean|to make them longer|to make them softer|to lose them
Why do people go to a doctor?|they are sick|they are hungry|they are famous|they are late
Why do people set an alarm clock?|to wake up on time|to fall asleep faster|to cook breakfast|to save money
Why do people wear a helmet on a bike?|to protect their head|to ride faster|to keep their feet dry|to see the stars
Why do people plant seeds?|to grow plants|to feed the sun|to make stones|to build roads
Why do firefighters use water?|to put out fires|to wash their cars|to make tea|to fill the pool
She laughed because the joke was|funny|sad|long|blue
He drank a glass of water because he was|thirsty|hungry|sleepy|angry
She put on a sweater because she felt|cold|hot|full|tall
He failed the test because he had not|studied|eaten|danced|smiled
They cried at the end because the film was|sad|short|cheap|green
The dog wagged its tail because it was|happy|angry|dead|empty
She whispered because the baby was|asleep|hungry|tall|noisy
He went to the dentist because of a pain in his|tooth|knee|foot|back
The plane was late because of the|fog|grass|music|soup
The match ended early because a player was|injured|married|hungry|polite
He could not buy the car because it was too|expensive|cheap|yellow|friendly
""",
    ),
    Rows(
        "proverbs",
        (
            ("How does the saying end: Better late than?", "never"),
            ("How does the saying end: No pain, no?", "gain"),
        ),
        """
An apple a day keeps the doctor|away|home|busy|happy
Actions speak louder than|words|bells|dogs|money
The early bird catches the|worm|bus|cat|train
Practice makes|perfect|money|noise|tired
Time flies when you are having|fun|tea|pain|rain
Don't judge a book by its|cover|author|price|title
When in Rome, do as the Romans|do|eat|sing|build
Two wrongs don't make a|right|left|wrong|plan
Honesty is the best|policy|weapon|music|garden
Where there is smoke, there is|fire|water|music|snow
A picture is worth a thousand|words|dollars|miles|books
Rome was not built in a|day|year|house|hurry
Too many cooks spoil the|broth|party|bread|kitchen
Every cloud has a silver|lining|spoon|ring|coin
All that glitters is not|gold|glass|silver|snow
You can't teach an old dog new|tricks|songs|words|games
The grass is always greener on the other|side|day|hand|hill
Curiosity killed the|cat|dog|king|mouse
Birds of a feather flock|together|alone|slowly|south
Look before you|leap|sleep|sing|pay
Strike while the iron is|hot|cold|old|wet
Out of sight, out of|mind|time|money|luck
Beggars can't be|choosers|singers|winners|doctors
Once upon a|time|day|hill|horse
""",
    ),
    Rows(
        "feelings",
        (
            ("Mia won the race. How does she feel?", "proud"),
            ("Jon saw a ghost. How does he feel?", "scared"),
        ),
        """
Lena lost her favourite toy. How does she feel?|sad|proud|happy|hungry
Max got a new bike for his birthday. How does he feel?|happy|angry|scared|sorry
Someone stole Peter's car. How does he feel?|angry|happy|proud|sleepy
Ella has worked for sixteen hours. How does she feel?|tired|fresh|young|curious
A big dog is chasing Tim. How does he feel?|afraid|bored|proud|sleepy
Nobody talks to Sara at the party. How does she feel?|lonely|famous|hungry|proud
The film is very long and dull. How do the viewers feel?|bored|scared|proud|amazed
Kim broke her friend's cup. How does she feel?|sorry|proud|hungry|lucky
Amy ate nothing since yesterday. How does she feel?|hungry|full|proud|rich
Noah's best friend moved away. How does he feel?|sad|proud|lucky|amused
Rita passed her exam with the best grade. How does she feel?|happy|sad|angry|afraid
Tomorrow is the first day at a new job. How does Bill feel?|nervous|bored|guilty|sleepy
The magician pulled a rabbit out of his hat. The children were|amazed|angry|asleep|sorry
When her dog died, Anna was very|sad|glad|proud|lucky
When the team scored, the fans started to|cheer|sleep|cook|leave
When he heard the terrible news, he began to|cry|dance|laugh|cook
Somebody who is afraid of everything is a|coward|hero|giant|baker
Someone who shares with others is|generous|selfish|lazy|cruel
Someone who never works is|lazy|busy|brave|clever
Someone who always tells the truth is|honest|hungry|lazy|noisy
Someone who can wait for a long time is|patient|angry|hungry|selfish
""",
    ),
    Rows(
        "spelling",
        (
            ("Which letter does the word 'house' begin with?", "h"),
            ("Which letter does the word 'tree' begin with?", "t"),
        ),
        """
Which letter does the word 'apple' begin with?|a|p|l|e
Which letter does the word 'banana' begin with?|b|n|a|m
Which letter does the word 'king' begin with?|k|g|n|i
Which letter does the word 'orange' begin with?|o|r|g|e
Which letter does the word 'snake' begin with?|s|n|k|e
Which letter does the word 'water' begin with?|w|t|r|a
Which letter does the word 'zebra' begin with?|z|b|r|a
Which letter does the word 'green' begin with?|g|r|n|e
Which letter does the word 'mouse' begin with?|m|o|s|e
Which letter does the word 'lemon' begin with?|l|m|n|o
Which letter does the word 'yellow' begin with?|y|l|w|o
Which letter does the word 'dinner' begin with?|d|n|r|i
The letter of the alphabet that comes after A is|B|K|S|X
The letter of the alphabet that comes after C is|D|M|T|Z
The letter of the alphabet that comes after F is|G|P|W|B
The first letter of the alphabet is|A|M|R|Z
The last letter of the alphabet is|Z|A|K|S
A, B, C, D,|E|M|T|K
L, M, N, O,|P|B|Y|G
W, X, Y,|Z|D|K|R
The word "cat" is spelled c, a,|t|m|x|o
The word "dog" is spelled d, o,|g|k|s|a
The word "sun" is spelled s, u,|n|b|v|i
The word "book" is spelled b, o, o,|k|f|x|a
""",
    ),
    Rows(
        "grammar",
        (
            ("Which word is right: 'she am' or 'she is'?", "she is"),
            ("Which word is right: 'I has' or 'I have'?", "I have"),
        ),
        """
She and her brother|are|is|am|be
Yesterday we|were at home|are at home|is at home|be at home
My sister|likes music|like music|liking music|to like music
He has two|cars|car|cares|a car
I have never|been there|be there|was there|being there
This is the best cake I have ever|eaten|eat|ate|eating
If I were you, I|would wait|will waits|waited|am wait
They are interested|in history|on history|at history|by history
She is afraid|of spiders|on spiders|at spiders|in spiders
He is good|at tennis|on tennis|of tennis|by tennis
We have lived here|since 2010|for 2010|until 2010|at 2010
There are many|people here|person here|peoples here|a person here
Tom and I went home, and the teacher saw|us|we|I|he
This book belongs to her. It is|hers|her|she|him
An hour has sixty|minutes|minute|minuted|minuting
I am looking forward to|seeing you|see you|saw you|seen you
She can|swim very well|swims very well|swam very well|swimming very well
Neither of them|knows the answer|knowing the answer|to know the answer|known the answer
Do you want|to go now|go now to|going now|went now
This car is faster|than that one|as that one|then that ones|from that one
He plays the guitar very|well|good|nice|goodly
The children washed|themselves|himself|herself|itself
""",
    ),
    Rows(
        "history",
        (
            ("Which country is the Eiffel Tower in?", "France"),
            ("Which country is the Colosseum in?", "Italy"),
        ),
        """
Which country are the pyramids of Giza in?|Egypt|Norway|Canada|Japan
Which country is the Great Wall in?|China|Spain|Kenya|Chile
Which country is the Taj Mahal in?|India|Japan|Turkey|Peru
Which country is the Statue of Liberty in?|the United States|the Netherlands|South Africa|New Zealand
Which country is the Kremlin in?|Russia|Brazil|Mexico|Greece
Which country is Big Ben in?|England|Portugal|Poland|Austria
Which country is Machu Picchu in?|Peru|Egypt|India|Finland
Which country is the Acropolis in?|Greece|Ireland|Germany|Cuba
Which country is Mount Fuji in?|Japan|Italy|Russia|Chile
Which country is the Brandenburg Gate in?|Germany|France|Spain|Hungary
The Second World War ended in|1945|1815|1066|1989
The First World War began in|1914|1789|1945|1492
Columbus reached America in|1492|1066|1776|1914
The Berlin Wall fell in|1989|1945|1918|1871
The Declaration of Independence of the United States was signed in|1776|1492|1865|1945
The French Revolution began in|1789|1492|1914|1989
The first people walked on the Moon in|1969|1912|1939|1999
The ancient Romans spoke|Latin|English|Turkish|Chinese
The pharaohs ruled in ancient|Egypt|Rome|China|Mexico
The Vikings came from|Scandinavia|Australia|Africa|India
The samurai were warriors in|Japan|Spain|Egypt|Brazil
The Titanic sank after it hit an|iceberg|island|airplane|airport
""",
    ),
    Rows(
        "geography",
        (
            ("Which ocean lies between Europe and America?", "the Atlantic"),
            ("Which sea lies between Europe and Africa?", "the Mediterranean"),
        ),
        """
What is the longest river in Africa?|the Nile|the Rhine|the Seine|the Ganges
What is the highest mountain in the world?|Mount Everest|Mont Blanc|Mount Fuji|Mount Etna
What is the largest ocean?|the Pacific|the Atlantic|the Arctic|the Indian
What is the largest hot desert in the world?|the Sahara|the Gobi|the Mojave|the Negev
What is the largest country in the world?|Russia|Belgium|Cuba|Egypt
Which river flows through London?|the Thames|the Nile|the Danube|the Amazon
Which river flows through Paris?|the Seine|the Volga|the Tiber|the Ganges
Which river flows through Egypt?|the Nile|the Rhine|the Mississippi|the Loire
Which mountains lie between France and Spain?|the Pyrenees|the Andes|the Rockies|the Urals
Which mountains run along the west of South America?|the Andes|the Alps|the Himalayas|the Urals
The Amazon is a river in|South America|Europe|Asia|Australia
Kangaroos live in the wild in|Australia|Canada|Poland|Kenya
Penguins live in the wild in|Antarctica|Germany|Canada|Russia
The Alps are mountains in|Europe|Africa|Australia|South America
The city of New York is in|the United States|New Zealand|South Africa|the Netherlands
The city of Barcelona is in|Spain|Italy|Sweden|Japan
The city of Munich is in|Germany|Brazil|India|Greece
The city of Mumbai is in|India|Chile|France|Egypt
The city of Sydney is in|Australia|Ireland|Mexico|Japan
The city of Toronto is in|Canada|Turkey|Kenya|Spain
The city of Venice is in|Italy|Norway|China|Cuba
The city of Istanbul is in|Turkey|Finland|Brazil|Peru
The sun rises in the|east|west|north|south
The coldest parts of the Earth are near the|poles|deserts|forests|cities
""",
    ),
)
